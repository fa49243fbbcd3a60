-- People with the console's role viewer see how the deliveries of the last hour ended, as the role was meant to (figures). Of an
-- unknown delivery, its resolution says how it ended, and a claim's own late result comes before a person's finding: these two
-- columns are all that takes. Who found it out, why, when and what the receiver answered stay out of a viewer's reach.
GRANT SELECT (source, state) ON postcall.resolution TO postcall_console_viewer;
