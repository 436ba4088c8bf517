"""nano's stand-ins for the pretrained parts the paper starts from: a 2D vision-language model and a 3D encoder."""
