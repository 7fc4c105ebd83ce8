"""The pages. They know Gradio and :class:`pipelines.studio.Studio`; they never import torch or diffusers."""
