"""The page. It imports Gradio and uses :class:`pipelines.studio.Studio`; it never imports torch or diffusers."""
