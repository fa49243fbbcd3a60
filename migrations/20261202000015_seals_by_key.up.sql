-- Once another key has signed the log, a key is never used again: it was perhaps replaced because it was stolen. Whoever seals looks up
-- which slices a key has signed. The expression is how the line of a signature begins behind its dash: the name of the key, and five
-- characters of base64, which hold nothing but the key's id. While the index is built, nothing is sealed.
SET LOCAL lock_timeout = '3s';

CREATE INDEX seal_slice_by_key ON postcall.seal_slice
    (substring(split_part(checkpoint, E'\n\n', 2) FROM '^\S+ (\S+ \S{5})'), size);
