//! Errors for people: codes, spans, help, and how they are drawn. Nothing else prints errors.
