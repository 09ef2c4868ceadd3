raise ValueError("no luck today")
