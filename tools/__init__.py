"""What keeps the project in order: the book, the guide's made parts, a bundle for a room without a network, translations."""
