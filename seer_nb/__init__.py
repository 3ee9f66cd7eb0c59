"""seer_nb: tune PyTorch models from a notebook when time and money are both limited."""
