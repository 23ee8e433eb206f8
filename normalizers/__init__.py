"""Payload in, events out. The common model stands in `normalizers.model`, each channel in a module of its own."""
