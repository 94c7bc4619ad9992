//! A layer that turns an event and the spans around it into one journal entry, each fact a field of its own.

use log::Record;
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::field::{Facts, journal_name};

pub(super) struct JournalLayer<F> {
    send: F,
}

impl<F: Fn(&Record<'_>)> JournalLayer<F> {
    pub(super) fn new(send: F) -> Self {
        Self { send }
    }
}

impl<F, S> Layer<S> for JournalLayer<F>
where
    F: Fn(&Record<'_>) + 'static,
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut facts = Facts::default();
        attributes.record(&mut facts);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(facts);
        }
    }

    fn on_record(&self, id: &Id, values: &tracing::span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(facts) = span.extensions_mut().get_mut::<Facts>()
        {
            values.record(facts);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut all = Facts::default();
        let mut spans = Vec::new();
        for span in
            context.event_scope(event).into_iter().flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            spans.push(span.name());
            if let Some(facts) = span.extensions().get::<Facts>() {
                all.extend(facts);
            }
        }
        let mut own = Facts::default();
        event.record(&mut own);
        all.extend(&own);

        let mut pairs: Vec<_> =
            all.pairs.iter().map(|(name, value)| (journal_name(name), value.as_str())).collect();
        let spans = spans.join(":");
        if !spans.is_empty() {
            pairs.push(("SPAN".into(), &spans));
        }
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_ref(), *value)).collect();
        // What came through the log crate names its own place; the event's is tracing-log's.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        (self.send)(
            &Record::builder()
                .args(format_args!("{}", all.message))
                .level(level(*metadata.level()))
                .target(metadata.target())
                .module_path(metadata.module_path())
                .file(metadata.file())
                .line(metadata.line())
                .key_values(&pairs)
                .build(),
        );
    }
}

fn level(level: Level) -> log::Level {
    match level {
        Level::ERROR => log::Level::Error,
        Level::WARN => log::Level::Warn,
        Level::INFO => log::Level::Info,
        Level::DEBUG => log::Level::Debug,
        Level::TRACE => log::Level::Trace,
    }
}
