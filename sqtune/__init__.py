"""sqtune: finds the most accurate low-bit network that fits a device."""

__version__ = "0.1.0"
