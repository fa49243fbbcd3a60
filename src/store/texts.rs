//! The closed sets of the domain as the database keeps them: as text. With what stands here, a statement says
//! `state AS "state!: State"`, and a value is bound as it is.
//!
//! A text that the program does not know is an error of the driver, [`sqlx::Error::ColumnDecode`], which says what is not
//! known. It does not quote the text: what a database holds against its own constraints can be anything. [`in_columns`] adds
//! the column's name.
//!
//! # A newer schema beside an older program
//!
//! A newer release may add a name to one of these sets. Then the CHECK constraint of its migration knows the name, and this
//! program does not.
//!
//! - Dispatchers of this release that still run while the schema is migrated are not touched: they write states and
//!   kinds, and read none. A claim, a result and a delivery that is given up hold no text of these sets in what they return.
//! - Commands that read history refuse a newer schema before they ask for a row. Only one that was already reading while
//!   the schema was migrated can meet such a row. It ends with the error, and does not guess what the row means.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo};
use sqlx::{Encode, Postgres};

use crate::domain::act::Act;
use crate::domain::action::Method;
use crate::domain::action_test::{CallSource, TestErrorKind, TestState};
use crate::domain::delivery::{BodyEnd, ResolutionSource, State};
use crate::domain::error_kind::ErrorKind;

/// The text of a column stands for nothing that this program knows.
#[derive(Debug, thiserror::Error)]
#[error("this release of postcall does not know this {0}; a newer release may have written it")]
pub(super) struct UnknownText(pub(super) &'static str);

/// Makes an enum with `named` a text that a statement returns. The second argument says what it is, for people.
macro_rules! is_text_to_read {
    ($name:ty, $what:literal) => {
        impl sqlx::Type<sqlx::Postgres> for $name {
            fn type_info() -> sqlx::postgres::PgTypeInfo {
                <&str as sqlx::Type<sqlx::Postgres>>::type_info()
            }

            fn compatible(other: &sqlx::postgres::PgTypeInfo) -> bool {
                <&str as sqlx::Type<sqlx::Postgres>>::compatible(other)
            }
        }

        impl sqlx::Decode<'_, sqlx::Postgres> for $name {
            fn decode(value: sqlx::postgres::PgValueRef<'_>) -> Result<$name, sqlx::error::BoxDynError> {
                let text = <&str as sqlx::Decode<sqlx::Postgres>>::decode(value)?;
                Ok(<$name>::named(text).ok_or($crate::store::texts::UnknownText($what))?)
            }
        }
    };
}
pub(super) use is_text_to_read;

/// As `is_text_to_read`, for an enum that has `as_str`, too, and is bound to parameters.
macro_rules! is_text {
    ($name:ty, $what:literal) => {
        is_text_to_read!($name, $what);

        impl PgHasArrayType for $name {
            fn array_type_info() -> PgTypeInfo {
                <&str as PgHasArrayType>::array_type_info()
            }

            fn array_compatible(other: &PgTypeInfo) -> bool {
                <&str as PgHasArrayType>::array_compatible(other)
            }
        }

        impl Encode<'_, Postgres> for $name {
            fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
                <&str as Encode<Postgres>>::encode(self.as_str(), buffer)
            }
        }
    };
}

is_text!(State, "state");
is_text!(ErrorKind, "error kind");
is_text!(BodyEnd, "end of a response body");
is_text!(ResolutionSource, "source of a resolution");
is_text!(Method, "method");
is_text!(Act, "act");
is_text!(TestState, "state of a test");
is_text!(TestErrorKind, "error kind of a test");
is_text!(CallSource, "source of a call");

/// `error` with the column's name where the driver has only its number; `columns` are those of the statement, in its order.
pub(super) fn in_columns(error: sqlx::Error, columns: &[&str]) -> sqlx::Error {
    match error {
        sqlx::Error::ColumnDecode { index, source } => {
            let name = index.parse().ok().and_then(|number: usize| columns.get(number));
            sqlx::Error::ColumnDecode { index: name.map_or(index.clone(), |name| (*name).to_owned()), source }
        }
        other => other,
    }
}
