"""Hugging Face folders <-> our models (folder.py). A family's names and sizes are in the file of that family."""

from training.exchange.family import Model
from training.exchange.folder import export_folder, exportable, import_folder
from training.exchange.reading import CONFIG, TOKENIZER_FILES, WEIGHTS

__all__ = ["CONFIG", "TOKENIZER_FILES", "WEIGHTS", "Model", "export_folder", "exportable", "import_folder"]
