"""What touches files, once each: whole writes, hashes of content, safe pickles, video, progress."""
