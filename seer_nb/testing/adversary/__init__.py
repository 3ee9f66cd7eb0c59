"""Studies under a virtual clock in which everything goes wrong, watched at each step: are the promises kept?"""
