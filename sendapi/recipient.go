package sendapi

// RecipientKind is the form in which a recipient is named; its value is the name of the field.
type RecipientKind string

// The forms of a recipient.
const (
	ByPSID RecipientKind = "id"
)

// A Recipient is the person a request goes to.
type Recipient struct {
	Kind  RecipientKind
	Value string // the full value: never to be logged, see Short
}

// Short is the recipient shortened for logs: the last four characters at most.
func (r Recipient) Short() string {
	if len(r.Value) < 8 {
		return "…"
	}
	return "…" + r.Value[len(r.Value)-4:]
}

// String is Short, so that no log line or error holds the full value by accident.
func (r Recipient) String() string { return r.Short() }
