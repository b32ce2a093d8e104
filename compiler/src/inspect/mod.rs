//! Pictures of the IR: text, dot, json, html.
