//! Template and call to request.
