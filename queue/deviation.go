package queue

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Difference is a setting of a stream or bucket that differs from the one that was asked for.
type Difference struct {
	Stream  string `json:"stream"`
	Setting string `json:"setting"` // as the server's API names it; "stream" if the stream is missing
	Have    string `json:"have"`
	Want    string `json:"want"`
}

// grade is how much a setting matters that differs: see layout.go.
type grade int

const (
	same grade = iota
	drifted
	added
	broken
)

// deviation is a setting that is graded other than same.
type deviation struct {
	Difference
	grade grade
	field string // of jetstream.StreamConfig
	why   string // what breaks
	final bool   // the server cannot change the setting
}

// compare returns the deviations, in the order of the fields.
func compare(plan, found *jetstream.StreamConfig) (deviations []deviation) {
	want, have := reflect.ValueOf(plan).Elem(), reflect.ValueOf(found).Elem()
	for i := range want.NumField() {
		field := want.Type().Field(i)
		r := rules[field.Name]
		g := r.judge(plan, want.Field(i), have.Field(i))
		if g == same {
			continue
		}
		setting, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		f := deviation{Difference{plan.Name, setting, text(have.Field(i)), text(want.Field(i))}, g, field.Name, r.why, r.final}
		if field.Name == "Retention" && plan.Retention != jetstream.WorkQueuePolicy && found.Retention != jetstream.WorkQueuePolicy {
			f.final = false // between these two policies the server can change it
		}
		deviations = append(deviations, f)
	}
	return deviations
}

// text is the text of a setting's value, for people.
func text(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case []string:
		return strings.Join(slices.Sorted(slices.Values(value)), " ")
	case jetstream.StreamConsumerLimits:
		return fmt.Sprintf("max_ack_pending %d and inactive_threshold %v", value.MaxAckPending, value.InactiveThreshold)
	case time.Duration, fmt.Stringer, bool:
		return fmt.Sprint(value)
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice:
		if blank(v) {
			return "none"
		}
		return "set"
	}
	if blank(v) {
		return "-1"
	}
	return fmt.Sprint(v.Interface())
}

// amended returns the configuration that was found, with the metadata of this version and the planned value of each
// deviation of at least a grade.
func amended(plan, found *jetstream.StreamConfig, deviations []deviation, least grade) jetstream.StreamConfig {
	to := *found
	want, have := reflect.ValueOf(plan).Elem(), reflect.ValueOf(&to).Elem()
	for _, f := range deviations {
		if f.grade >= least {
			have.FieldByName(f.field).Set(want.FieldByName(f.field))
		}
	}
	if to.MaxAge > 0 && to.Duplicates > to.MaxAge { // the server refuses that
		to.Duplicates = to.MaxAge
	}
	to.Metadata = maps.Clone(found.Metadata)
	if to.Metadata == nil {
		to.Metadata = map[string]string{}
	}
	maps.Copy(to.Metadata, plan.Metadata)
	return to
}

// missing returns the metadata that is planned for a stream and that it does not have.
func missing(plan, found *jetstream.StreamConfig) (differs []Difference) {
	for _, key := range slices.Sorted(maps.Keys(plan.Metadata)) {
		if has := found.Metadata[key]; has != plan.Metadata[key] {
			differs = append(differs, Difference{plan.Name, key, cmp.Or(has, "none"), plan.Metadata[key]})
		}
	}
	return differs
}

// brokenError returns the error for the deviations that are broken, nil if none is.
func brokenError(stream string, deviations []deviation) error {
	var reasons []string
	remedy := remedySetup
	for _, f := range deviations {
		if f.grade != broken {
			continue
		}
		reasons = append(reasons, fmt.Sprintf("%s is %s and must be %s (%s)", f.Setting, f.Have, f.Want, f.why))
		if f.final {
			remedy = remedyAgain
		}
	}
	if reasons == nil {
		return nil
	}
	return &StreamError{stream, strings.Join(reasons, "; "), remedy}
}

// StreamError says that a stream or bucket cannot be used as it is, or cannot be made as it should be. Waiting does not
// help, the remedy does.
type StreamError struct {
	Stream, Reason, Remedy string
}

func (e *StreamError) Error() string {
	return "stream " + e.Stream + ": " + e.Reason + "; " + e.Remedy
}

const (
	remedySetup = "run `brazier setup` with an operator's rights"
	remedyAgain = "the server cannot change that: once its messages are not needed any more, remove the stream (nats stream rm) and run `brazier setup`"
)
