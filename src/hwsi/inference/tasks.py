"""The words of the tasks that are not a user's question; the model is trained on the same words."""

REPORT_PROMPT = "Write the report of this slide."
CAPTION_PROMPT = "Describe this slide in one sentence."
