//! The entities of `flux-loadgen fill` with its defaults: their ids, and a value by which each is
//! known.

/// Namespaces that they are spread over.
const NAMESPACES: u64 = 16;
/// What the first property of entity 0 is set to; each further event of the filler sets one more.
const VALUE_FIRST: u64 = 1_000_000_000_000_000;

/// The id of entity `number`.
pub(crate) fn id(number: u64) -> String {
    format!("load-{:04}/e-{number:08}", number % NAMESPACES)
}

/// What an answer holds if the filler's event `number` set the entity last. If the filler set each
/// entity once, the number of the event is that of the entity.
pub(crate) fn mark(event_number: u64) -> String {
    format!("\"p0\":{}", VALUE_FIRST + event_number)
}

/// A batch of events that set each of `numbers` to the value that it has already, so that nothing
/// is lost by it.
pub(crate) fn batch(numbers: impl Iterator<Item = u64>) -> String {
    let events: Vec<String> = numbers.map(event).collect();
    format!("{{\"events\":[{}]}}", events.join(","))
}

/// One such event, of three properties.
pub(crate) fn event(number: u64) -> String {
    format!(
        "{{\"stream\":\"load\",\"source\":\"bench\",\"payload\":{{\"entity_id\":\"{}\",\"properties\":\
         {{{},\"p1\":\"abcdefghijklmnop\",\"p2\":\"ponmlkjihgfedcba\"}}}}}}",
        id(number),
        mark(number)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_sets_each_entity_to_its_own_value() {
        let batch: serde_json::Value = serde_json::from_str(&batch([7, 19].into_iter())).unwrap();
        let payloads: Vec<_> = batch["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| &event["payload"])
            .collect();
        assert_eq!(payloads[0]["entity_id"], "load-0007/e-00000007");
        assert_eq!(payloads[1]["entity_id"], "load-0003/e-00000019");
        assert_eq!(payloads[1]["properties"]["p0"], 1_000_000_000_000_019_u64);
        assert!(payloads[1].to_string().contains(&mark(19)));
    }
}
