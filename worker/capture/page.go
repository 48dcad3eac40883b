package capture

import (
	"errors"
	"fmt"

	"github.com/brazier-relay/brazier/sendapi/webhook"
)

// Attributes are the names under which a user's attributes are written to Braze. Empty names stand for the defaults.
type Attributes struct {
	MessengerID string // the PSID, a string. Default messenger_id
	Window      string // until when ordinary messages are allowed, a time. Default messenger_window_until
	Reachable   string // false once Facebook says that the person cannot be reached. Default messenger_reachable
}

// The default names of the attributes.
const (
	DefaultMessengerID = "messenger_id"
	DefaultWindow      = "messenger_window_until"
	DefaultReachable   = "messenger_reachable"
)

// Page is a page whose events are captured. ID and Workspace are required.
type Page struct {
	ID   string // Facebook page id
	Name string // how logs name it; default ID
	// Workspace is the Braze workspace to which its people are written.
	Workspace string
	// References is what references the page accepts now. Nil: none. After an error the page's events wait.
	References func() (webhook.RefPolicy, error)
	// Reusable lets a reference move from the person from whom it came first to another one.
	Reusable bool
	// Aliases has people whom no reference links with a user written to a profile of their own, with an alias. Once a person is linked,
	// that profile loses the PSID.
	Aliases    bool
	Attributes Attributes
	// Events are the names of the custom events that Braze is told of. Kinds without a name are not told.
	Events map[EventKind]string
}

func (p *Page) setDefaults() error {
	for _, f := range []struct {
		value    *string
		standard string
	}{{&p.Name, p.ID}, {&p.Attributes.MessengerID, DefaultMessengerID}, {&p.Attributes.Window, DefaultWindow}, {&p.Attributes.Reachable, DefaultReachable}} {
		if *f.value == "" {
			*f.value = f.standard
		}
	}
	if p.References == nil {
		p.References = func() (webhook.RefPolicy, error) { return webhook.RefPolicy{}, nil }
	}
	a := p.Attributes
	switch {
	case p.ID == "":
		return errors.New("capture: a page has no id")
	case p.Workspace == "":
		return fmt.Errorf("capture: page %s: Workspace is missing", p.Name)
	case a.MessengerID == a.Window, a.MessengerID == a.Reachable, a.Window == a.Reachable:
		return fmt.Errorf("capture: page %s: two attributes have the same name", p.Name)
	}
	return nil
}
