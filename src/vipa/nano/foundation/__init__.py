"""nano's stand-in for the pretrained parts: vision, language and 3D encoder, trained on the tabletop."""
