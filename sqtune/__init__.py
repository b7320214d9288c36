"""sqtune: finds the most accurate low-bit network that fits, by searched Stochastic Quantization."""

__version__ = "0.1.0"
