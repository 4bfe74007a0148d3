"""How a look at the machine's buffers is shown: which of them, as tables, trees and graphs."""
