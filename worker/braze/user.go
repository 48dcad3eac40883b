package braze

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// UserID names a Braze user by exactly one of its fields. It is comparable, and may be stored as JSON in Braze's own form. It prints
// without an external id or alias in clear.
//
// The same user under two of its ids is two UserIDs: whoever orders calls by user must keep to one of them per user.
type UserID struct {
	// BrazeID is Braze's own id, which every profile has and which never changes.
	BrazeID string `json:"braze_id,omitempty"`
	// ExternalID is the customer's id, of fewer than 988 bytes.
	ExternalID string `json:"external_id,omitempty"`
	// Alias names a user who may have no external id.
	Alias Alias `json:"user_alias,omitzero"`
}

// Alias is a name that is unique within its label. Each has at most 236 bytes, and case matters.
type Alias struct {
	Name  string `json:"alias_name"`
	Label string `json:"alias_label"`
}

// Braze's limits in bytes ("external_id must be fewer than 988 bytes", user alias object).
const (
	maxExternalID = 987
	maxAlias      = 236
)

// Validate returns what keeps the id from naming a user.
func (u UserID) Validate() error {
	given := 0
	for _, is := range []bool{u.BrazeID != "", u.ExternalID != "", u.Alias != Alias{}} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return fmt.Errorf("user: exactly one of braze_id, external_id and user_alias must be set (got %d)", given)
	case u.BrazeID != "":
		return checkID("braze_id", u.BrazeID, maxAlias)
	case u.ExternalID != "":
		return checkID("external_id", u.ExternalID, maxExternalID)
	}
	return errors.Join(checkID("alias_name", u.Alias.Name, maxAlias), checkID("alias_label", u.Alias.Label, maxAlias))
}

func checkID(field, id string, longest int) error {
	switch {
	case strings.TrimSpace(id) == "":
		return fmt.Errorf("user: %s must not be blank", field)
	case len(id) > longest:
		return fmt.Errorf("user: %s must have at most %d bytes (got %d)", field, longest, len(id))
	case !utf8.ValidString(id):
		return fmt.Errorf("user: %s must be valid UTF-8", field)
	}
	return nil
}

// String names the user for logs: Braze's own id as it is, the others by the first eight hexadecimal digits of their SHA-256.
func (u UserID) String() string {
	switch {
	case u.BrazeID != "":
		return "braze_id " + u.BrazeID
	case u.ExternalID != "":
		return "external_id #" + digest(u.ExternalID)
	case u.Alias != Alias{}:
		return "user_alias #" + digest(u.Alias.Label+"\x00"+u.Alias.Name)
	}
	return "no user"
}

// GoString is String, so that %#v shows no more.
func (u UserID) GoString() string { return u.String() }

// String is the alias as [UserID.String] shows it.
func (a Alias) String() string { return UserID{Alias: a}.String() }

// GoString is String, so that %#v shows no more.
func (a Alias) GoString() string { return a.String() }

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}
