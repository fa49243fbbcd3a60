//! Excerpts of responses: the beginning and the end of bodies of receivers that did not take a request.

use uuid::Uuid;

use super::session::Session;
use super::{Store, StoreError};
use crate::domain::excerpt::Excerpt;

impl Session {
    /// Keeps these excerpts for so many days. If one of them is kept already, it stays as it is.
    ///
    /// # Errors
    /// Returns the database's error; none is kept then.
    pub async fn keep_excerpts(&mut self, excerpts: &[(Uuid, Box<Excerpt>)], days: i32) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = excerpts.iter().map(|(id, _)| *id).collect();
        let beginnings: Vec<&[u8]> = excerpts.iter().map(|(_, excerpt)| excerpt.beginning()).collect();
        let endings: Vec<&[u8]> = excerpts.iter().map(|(_, excerpt)| excerpt.ending()).collect();
        let left_out: Vec<i32> =
            excerpts.iter().map(|(_, excerpt)| i32::try_from(excerpt.left_out()).unwrap_or(i32::MAX)).collect();
        // ON CONFLICT without a target: a repetition is no error, and needs no right to read the table.
        let statement = sqlx::query!(
            "
            INSERT INTO postcall.response_excerpt (delivery_id, beginning, ending, left_out, kept_until)
            SELECT delivery_id, beginning, ending, left_out, now() + make_interval(days => $5)
            FROM unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::int[]) AS kept (delivery_id, beginning, ending, left_out)
            ON CONFLICT DO NOTHING",
            &ids,
            &beginnings as &[&[u8]],
            &endings as &[&[u8]],
            &left_out,
            days,
        );
        self.execute(statement).await?;
        Ok(())
    }

    /// Deletes one portion of the excerpts that are no longer kept. Returns how many there were; 0 means that there are no
    /// more.
    ///
    /// # Errors
    /// Returns the database's error.
    pub async fn expire_excerpts(&mut self) -> Result<u64, StoreError> {
        // A function of the schema does it, because dispatchers may not delete what is still kept. Found by the index of
        // ages, so its cost is that of what it deletes.
        let statement = sqlx::query_scalar!(r#"SELECT postcall.expire_response_excerpts() AS "removed!""#);
        Ok(self.fetch_one(statement).await?.unsigned_abs())
    }
}

impl Store {
    /// The excerpt of a delivery's response, if one is kept.
    ///
    /// # Errors
    /// Returns the database's error; it [is forbidden](StoreError::is_forbidden) to those who may not read excerpts.
    pub async fn excerpt(&self, delivery_id: Uuid) -> Result<Option<Excerpt>, StoreError> {
        // What is past its time is not shown, although no dispatcher may have deleted it yet.
        let row = sqlx::query!(
            "
            SELECT beginning, ending, left_out FROM postcall.response_excerpt
            WHERE delivery_id = $1 AND kept_until >= now()",
            delivery_id,
        );
        let found = row.fetch_optional(&self.pool).await?;
        Ok(found.map(|row| Excerpt::of(row.beginning, row.ending, row.left_out.unsigned_abs() as usize)))
    }
}
