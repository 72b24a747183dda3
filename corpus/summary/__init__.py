"""What a corpus holds, for people: the numbers behind the report, and the page itself."""
