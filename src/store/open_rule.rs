//! What is open, as a condition: the one place in which it is written. The statements that search and those that count take it from here.

/// Gives `$then!` what stands before, and behind that the condition that no later delivery of the message of `candidate` was delivered. A
/// candidate that was not delivered itself is then open.
///
/// - It is asked by index, in scalar subqueries, of each row that matches otherwise: of NOT EXISTS, or of a join, the planner could make
///   one that reads all replays first.
/// - It is a text and no function of the schema, so it is planned as a part of each statement.
macro_rules! with_is_open {
    ($then:ident; $($before:tt)*) => {
        $then!(
            $($before)*
            r#"
                      (SELECT true
                       FROM postcall.replay AS later
                       JOIN postcall.delivery AS ended ON ended.delivery_id = later.delivery_id
                       WHERE later.message_id = coalesce((SELECT own.message_id FROM postcall.replay AS own
                                                          WHERE own.delivery_id = candidate.delivery_id),
                                                         candidate.delivery_id)
                         AND later.delivery_id > candidate.delivery_id
                         AND (ended.state = 'delivered' OR ended.state = 'unknown' AND (
                             SELECT learnt.state FROM postcall.resolution AS learnt
                             WHERE learnt.delivery_id = later.delivery_id ORDER BY learnt.source LIMIT 1) = 'delivered')
                       LIMIT 1) IS NOT TRUE
            "#
        )
    };
}

pub(super) use with_is_open;
