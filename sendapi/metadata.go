package sendapi

// WithMetadata returns a request with metadata added to its message, in new memory. It
// returns body itself if the message has metadata of its own, if there is no message
// (a sender action), and if body is not a JSON object.
//
// Metadata is for the sender: Facebook does not show it to the person, and returns it
// in the message_echoes webhook (Send API reference). It must be shorter than 1000
// characters.
func WithMetadata(body []byte, metadata string) []byte {
	t, failure := scan(body)
	if failure != nil || t.kind(0) != '{' {
		return body
	}
	for n := range t.children(0) {
		if !t.isNamed(n, "message") || t.kind(n) != '{' {
			continue
		}
		for member := range t.children(n) {
			if t.isNamed(member, "metadata") {
				return body
			}
		}
		at := t.nodes[n].val.start + 1 // behind the brace
		with := make([]byte, 0, len(body)+len(metadata)+16)
		with = append(with, body[:at]...)
		with = appendQuoted(append(with, `"metadata":`...), metadata)
		if !t.empty(n) {
			with = append(with, ',')
		}
		return append(with, body[at:]...)
	}
	return body
}
