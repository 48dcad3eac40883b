package webhook

// RefReason is why a reference is refused. The values are stable labels of metrics.
type RefReason string

// The reasons to refuse a reference.
const (
	RefNotOurs   RefReason = "not_ours"  // it does not claim to be a reference: most refs are of somebody else's campaigns
	RefMalformed RefReason = "malformed" // its form is broken
	RefForged    RefReason = "forged"    // no secret of the page gives its signature
	RefEmpty     RefReason = "empty"     // it is signed and names nobody
	RefEndless   RefReason = "endless"   // it never expires, which the page does not allow
	RefExpired   RefReason = "expired"   // it is too old
	RefFuture    RefReason = "future"    // it was made after now
)

// A RefError says why a reference is refused. It holds nothing of the reference but the time at which it was made.
type RefError struct {
	Reason RefReason
	detail string
}

func (e *RefError) Error() string { return "reference refused (" + string(e.Reason) + "): " + e.detail }

func refuse(reason RefReason, detail string) *RefError { return &RefError{reason, detail} }
