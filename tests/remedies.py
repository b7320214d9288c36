"""How a message tells what to do: a word that does, or a list of what there is."""

from __future__ import annotations

import re

WORDS = (
    r"\b(give|take|see|did you mean|known (are|is)|name|search|install|check|mend|lower|copy|"
    r"export|keep|write|leave|make|remove|start|goes on|same (search )?command|convert|ask|wait|"
    r"relax|move|change|choose|count|train|call|update|open|bring|put|unset|return|add|allow|save|"
    r"the (layers|modules)[ \w]* are|nearest|what it says|need|are known|must be|exactly one of)\b"
)
CONSTANTS = (  # of the sources, that do
    r"\{[^}]*\b(did_you_mean|SECRETS|TOKEN|COPY|ANEW|BY_HAND|REMEDY|LEAVE_OUT|NO_GRID|NO_CODE|"
    r"message|remedy|hint|found)\b"
)
IN_MESSAGE = re.compile(WORDS, re.IGNORECASE)
IN_SOURCE = re.compile(f"{WORDS}|{CONSTANTS}", re.IGNORECASE)
