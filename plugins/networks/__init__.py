"""Networks that no well-kept library has, in the manner of timm's model files; each names the paper and the section."""
