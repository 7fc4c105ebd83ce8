"""The only door for pages and API clients: runs are started, watched, stopped and used through here.

Heavy libraries are imported when the first piece of work needs them, never when this module is.
"""

from pipelines.rooms.facts import Facts
from pipelines.rooms.files import Files
from pipelines.rooms.pictures import Pictures
from pipelines.rooms.shelf import Shelf
from pipelines.rooms.training import Training


class Studio(Training, Shelf, Files, Pictures, Facts):
    """Runs below ``root`` (default: the user's data folder), trained and drawn on one worker thread per device.

    ``devices`` are names such as "cuda:0" (default: every CUDA device, else the processor). ``workshop`` hands over
    bases that are loaded already, from a Studio that has been closed, to the first of them.
    """
