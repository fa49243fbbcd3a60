//! What the sealer decides without a database.

use super::*;

#[test]
fn what_was_written_when_a_sealer_died_is_sealed_by_another_one_in_time() {
    // It took its turn right before it died, and had sealed nothing since its last round. Another one tries when the turn is over, by its
    // own round, and has 10 s for the work.
    assert!(EVERY + TURN + EVERY + Duration::from_secs(10) <= Duration::from_secs(60) && TURN > EVERY);
}

#[test]
fn a_key_is_replaced_once_another_one_has_signed_behind_its_first_checkpoint() {
    let [own, old, older] =
        ["own", "old", "older"].map(|name| Signer::from_seed(name, &[1; 32]).unwrap().verifier().clone());
    for (signed, expected) in [
        (vec![], false),
        (vec![(&old, 9)], false),
        (vec![(&old, 9), (&older, 4)], false),
        (vec![(&older, 5)], false),
        (vec![(&old, 9), (&older, 6)], true),
        (vec![(&own, 1)], true),
    ] {
        assert_eq!(is_followed(&old, 5, &own, &signed), expected, "{signed:?}");
    }
}
