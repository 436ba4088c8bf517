"""The stages of annotation, the engines that run them, and the store of what they made."""
