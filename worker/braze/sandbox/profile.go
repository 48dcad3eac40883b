package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// Profile is a user as the sandbox has it.
type Profile struct {
	// BrazeID is 24 hexadecimal digits. Create makes one where it is empty.
	BrazeID    string  `json:"braze_id"`
	ExternalID string  `json:"external_id,omitempty"`
	Aliases    []Alias `json:"user_aliases,omitempty"`
	// Attributes are strings, json.Numbers, bools, arrays and objects by name; a time is a string in RFC 3339 and UTC.
	Attributes map[string]any `json:"custom_attributes,omitempty"`
	// Events are in the order in which they were written.
	Events []Event `json:"custom_events,omitempty"`
	// Purchases are counted only.
	Purchases int `json:"purchases,omitempty"`
}

// Alias is one of a user's aliases. Its name is unique within the label.
type Alias struct {
	Name  string `json:"alias_name"`
	Label string `json:"alias_label"`
}

// Event is a custom event that was written.
type Event struct {
	Name       string         `json:"name"`
	Time       time.Time      `json:"time"`
	Properties map[string]any `json:"properties,omitempty"`
	Call       int64          `json:"call"` // the number of the call that wrote it
}

// ErrNoProfile says that no profile has an id.
var ErrNoProfile = errors.New("sandbox: no such profile")

// profiles are all of a workspace, by each of their ids.
type profiles struct {
	all      []*profile // in the order of their making
	braze    map[string]*profile
	external map[string]*profile
	alias    map[Alias]*profile
}

// profile is a Profile with what is counted about it.
type profile struct {
	Profile
	seen map[uint64]bool // events, by hash
}

func newProfiles() profiles {
	return profiles{braze: map[string]*profile{}, external: map[string]*profile{}, alias: map[Alias]*profile{}}
}

// find returns the profile that an identity names, or nil. E-mail and phone name nobody here.
func (p *profiles) find(id identity) *profile {
	switch id.kind {
	case "braze_id":
		return p.braze[id.id]
	case "external_id":
		return p.external[id.id]
	case "user_alias":
		return p.alias[id.Alias]
	}
	return nil
}

func (p *profiles) add(given Profile) *profile {
	made := &profile{Profile: given}
	if made.Attributes == nil {
		made.Attributes = map[string]any{}
	}
	p.all = append(p.all, made)
	p.braze[made.BrazeID] = made
	if made.ExternalID != "" {
		p.external[made.ExternalID] = made
	}
	for _, a := range made.Aliases {
		p.alias[a] = made
	}
	return made
}

// copied returns what may be given away. Values in it are shared, and never change.
func (p *profile) copied() Profile {
	c := p.Profile
	c.Aliases, c.Events, c.Attributes = slices.Clone(c.Aliases), slices.Clone(c.Events), maps.Clone(c.Attributes)
	return c
}

func brazeID(rnd *rand.Rand) string { return fmt.Sprintf("%016x%08x", rnd.Uint64(), rnd.Uint32()) }

// Create makes a profile, and returns it with its braze_id. Its attributes give those names their type, where they have none.
func (s *Sandbox) Create(p Profile) (Profile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.BrazeID == "" {
		p.BrazeID = brazeID(s.rnd)
	}
	if err := s.profiles.refuse(p); err != nil {
		return Profile{}, fmt.Errorf("sandbox: create: %w", err)
	}
	attributes := p.Attributes
	p.Attributes, p.Aliases, p.Events = nil, slices.Clone(p.Aliases), slices.Clone(p.Events)
	made := s.profiles.add(p)
	raw, err := json.Marshal(attributes) // so that values have the forms that a call's have
	if fields, ok := decode(raw).(map[string]any); err == nil && ok {
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			s.set(made, name, fields[name])
		}
	}
	return made.copied(), nil
}

// refuse returns what keeps a profile from being added.
func (p *profiles) refuse(given Profile) error {
	if p.braze[given.BrazeID] != nil {
		return fieldError{"BrazeID", "is another profile's"}
	}
	if given.ExternalID != "" && p.external[given.ExternalID] != nil {
		return fieldError{"ExternalID", "is another profile's"}
	}
	for _, a := range given.Aliases {
		if a.Name == "" || a.Label == "" {
			return fieldError{"Aliases", "must have a name and a label"}
		}
		if p.alias[a] != nil {
			return fieldError{"Aliases", "is another profile's"}
		}
	}
	return nil
}

// Profile returns the profile that has an id: its braze_id, or else its external id.
func (s *Sandbox) Profile(id string) (Profile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, found := range []*profile{s.profiles.braze[id], s.profiles.external[id]} {
		if found != nil {
			return found.copied(), nil
		}
	}
	return Profile{}, ErrNoProfile
}

// ByAlias returns the profile that has an alias.
func (s *Sandbox) ByAlias(a Alias) (Profile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.profiles.alias[a]; found != nil {
		return found.copied(), nil
	}
	return Profile{}, ErrNoProfile
}

// Profiles returns all profiles in the order of their making.
func (s *Sandbox) Profiles() []Profile {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Profile, len(s.profiles.all))
	for i, p := range s.profiles.all {
		list[i] = p.copied()
	}
	return list
}

// Types returns the types of attributes, declared ones and those of a first value.
func (s *Sandbox) Types() map[string]Type {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.types)
}

// write carries an object out, and returns whether its user exists. Needs mu.
func (s *Sandbox) write(o object, call int64) (known bool) {
	p := s.profiles.find(o.user)
	if p == nil {
		if p = s.createFor(o); p == nil {
			return false
		}
	}
	switch o.array {
	case "attributes":
		for _, name := range slices.Sorted(maps.Keys(o.fields)) {
			s.set(p, name, o.fields[name])
		}
	case "events":
		s.log(p, Event{o.name, o.at, o.fields, call})
	default:
		p.Purchases++
	}
	return true
}

// createFor makes the profile that an object for an unknown user makes, if it does. Needs mu.
func (s *Sandbox) createFor(o object) *profile {
	made := Profile{BrazeID: brazeID(s.rnd)}
	switch {
	case o.update:
		return nil
	case o.user.kind == "external_id":
		made.ExternalID = o.user.id
	case o.user.kind == "user_alias" && o.array == "attributes":
		made.Aliases = []Alias{o.user.Alias}
	default:
		return nil
	}
	s.record.total.Created++
	return s.profiles.add(made)
}

// set writes an attribute; null removes it, and leaves the name its type. Needs mu.
func (s *Sandbox) set(p *profile, name string, value any) {
	if value == nil {
		delete(p.Attributes, name)
		return
	}
	typ, known := s.types[name]
	if !known {
		typ = typeOf(value)
		s.types[name] = typ
	}
	if typeOf(value) != typ && !(typ == String && typeOf(value) == Time) {
		s.record.total.TypeConflicts++
	}
	if v, kept := fit(value, typ, s.rnd); kept {
		p.Attributes[name] = v
	}
}

// log writes an event, and counts it if the profile has the same one already. Needs mu.
func (s *Sandbox) log(p *profile, e Event) {
	h := fnv.New64a()
	raw, err := json.Marshal(Event{e.Name, e.Time, e.Properties, 0})
	if err != nil {
		panic("sandbox: event: " + err.Error()) // it came as JSON
	}
	_, _ = h.Write(raw)
	if p.seen[h.Sum64()] {
		s.record.total.DuplicateEvents++
	}
	if p.seen == nil {
		p.seen = map[uint64]bool{}
	}
	p.seen[h.Sum64()] = true
	p.Events = append(p.Events, e)
}
