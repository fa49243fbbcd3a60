-- The columns leave with the migration before this one.
SELECT 'nothing to undo';
