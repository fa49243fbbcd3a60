//! Late evidence: what the holder of a claim learns about a delivery that was given up as `unknown` in the meantime.
//! History is not changed; the evidence stands beside it, and the view shows what it says.

use uuid::Uuid;

use super::StoreError;
use super::columns::Columns;
use super::session::Session;
use crate::domain::claim::{Finished, Hold};

/// Whose evidence it is.
const BY: &str = "the dispatcher that sent it";

impl Session {
    /// Records results that came too late for [`Session::finish`], as far as they are certain: an answer, or a failure.
    /// Returns how many were news. May be repeated: each claim gives evidence once.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn record_evidence(&mut self, late: &[Finished]) -> Result<u64, StoreError> {
        let columns = Columns::from(late);
        // - The claim is the fence: a delivery that has been replayed or claimed anew has nothing to do with it.
        // - Only what is unknown can be resolved, and only by something more certain.
        let mut connection = self.take().await?;
        let news = sqlx::query!(
            r#"
            INSERT INTO postcall.resolution
                (delivery_id, source, resolved_by, reason, state, error_kind, method, url, request_bytes,
                 request_sha256, unresolved, response_code, response_bytes, response_sha256, body_end, latency_ms,
                 dns_ms, connected_ms, head_ms)
            SELECT delivery.delivery_id, 'claim', $1, 'its result came after it had been given up', done.state,
                   done.error_kind, done.method, done.url, done.request_bytes, done.request_sha256,
                   string_to_array(done.unresolved, E'\n'), done.response_code, done.response_bytes,
                   done.response_sha256, done.body_end, done.latency_ms, done.dns_ms, done.connected_ms, done.head_ms
            FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[],
                        $9::bytea[], $10::text[], $11::int2[], $12::int[], $13::bytea[], $14::text[], $15::int[],
                        $16::int[], $17::int[], $18::int[])
                AS done (delivery_id, claim, state, error_kind, method, url, request_bytes, request_sha256,
                         unresolved, response_code, response_bytes, response_sha256, body_end, latency_ms, dns_ms,
                         connected_ms, head_ms)
            JOIN postcall.delivery ON delivery.delivery_id = done.delivery_id AND delivery.claim = done.claim
            WHERE delivery.state = 'unknown' AND done.state IN ('delivered', 'rejected', 'failed')
            ON CONFLICT DO NOTHING
            "#,
            BY,
            &columns.delivery_id,
            &columns.claim,
            &columns.state as &[&str],
            &columns.error_kind as &[Option<&str>],
            &columns.method as &[Option<&str>],
            &columns.url as &[Option<&str>],
            &columns.request_bytes as &[Option<i32>],
            &columns.request_sha256 as &[Option<&[u8]>],
            &columns.unresolved as &[Option<String>],
            &columns.response_code as &[Option<i16>],
            &columns.response_bytes as &[Option<i32>],
            &columns.response_sha256 as &[Option<&[u8]>],
            &columns.body_end as &[Option<&str>],
            &columns.latency_ms as &[Option<i32>],
            &columns.dns_ms as &[Option<i32>],
            &columns.connected_ms as &[Option<i32>],
            &columns.head_ms as &[Option<i32>],
        )
        .execute(&mut connection);
        let news = self.within(news).await;
        Ok(self.keep(connection, news)?.rows_affected())
    }

    /// Records that deliveries which were given up in the meantime were never sent: they failed, certainly. Returns how
    /// many were news.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn record_unsent(&mut self, holds: &[&Hold]) -> Result<u64, StoreError> {
        let (deliveries, claims): (Vec<Uuid>, Vec<Uuid>) =
            holds.iter().map(|hold| (hold.delivery_id(), hold.claim())).unzip();
        // Fenced as above.
        let mut connection = self.take().await?;
        let news = sqlx::query!(
            r#"
            INSERT INTO postcall.resolution (delivery_id, source, resolved_by, reason, state)
            SELECT delivery.delivery_id, 'claim', $1, 'it was given up before a byte of it was sent', 'failed'
            FROM unnest($2::uuid[], $3::uuid[]) AS held (delivery_id, claim)
            JOIN postcall.delivery ON delivery.delivery_id = held.delivery_id AND delivery.claim = held.claim
            WHERE delivery.state = 'unknown'
            ON CONFLICT DO NOTHING
            "#,
            BY,
            &deliveries,
            &claims,
        )
        .execute(&mut connection);
        let news = self.within(news).await;
        Ok(self.keep(connection, news)?.rows_affected())
    }
}
