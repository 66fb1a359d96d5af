"""Training of a vision-language network on edgekit's engine: `edgekit train minivlm`."""
