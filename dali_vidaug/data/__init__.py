"""What is known of a data set: manifests, the lists that they are made from, and the scan that makes them."""
