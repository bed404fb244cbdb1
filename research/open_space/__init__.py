"""How the space `open-1` is made: own sentences, read as pictures by a picture tower, taught to a text encoder."""
