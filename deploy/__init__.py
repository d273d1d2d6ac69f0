"""A packaged bundle at work, as it is: behind a server, on a small device, in a web page. Nothing here needs torch."""
