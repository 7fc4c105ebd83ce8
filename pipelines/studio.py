"""The only door for pages and API clients: runs are started, watched, stopped and used through here.

Heavy libraries are imported when the first piece of work needs them, never when this module is.
"""

from pipelines.services.experiments import Laboratory
from pipelines.services.generation import Pictures
from pipelines.services.import_export import Files
from pipelines.services.inspection import Facts
from pipelines.services.library import Shelf
from pipelines.services.training import Training


class Studio(Training, Shelf, Files, Pictures, Facts, Laboratory):
    """Runs below ``root`` (default: the user's data folder), trained and drawn on one worker thread per device.

    ``devices`` are names such as "cuda:0" (default: every CUDA device, else the processor). ``model_cache`` hands over
    bases that are loaded already, from a Studio that has been closed, to the first of them.
    """
