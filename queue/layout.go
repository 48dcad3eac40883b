package queue

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The layout
//
// The layout is the configuration of every stream and bucket on the server. Open holds what it finds against it, setting
// by setting, by the rules below, each of which was read out of nats-server 2.15.2. What is found is one of:
//
//	same     as it should be, or different in a way that breaks nothing: left alone
//	drifted  the operator's to choose, and another than the flags of this process say: reported, changed by Setup alone
//	added    a setting of this version that is not there yet, and that adding breaks nothing: added by who may
//	broken   a promise would not hold: refused, changed by Setup alone
//
// Each stream carries the number of its layout, the schema, in its metadata. Streams without one were not made by a
// released version.

const (
	// schema is the number of the layout. Raise it with every change of it: testdata has the layout of each.
	schema = 2
	// schemaKey is where the metadata of a stream has it. Keys that begin with _nats. are the server's.
	schemaKey = "brazier.schema"
)

// layout returns all streams and buckets, in the order in which they are made.
func (c *Config) layout() []jetstream.StreamConfig {
	streams := []jetstream.StreamConfig{c.jobs(), c.records(), c.dead(), c.pages(), c.pace()}
	for i := range streams {
		streams[i].Metadata = map[string]string{schemaKey: strconv.Itoa(schema)}
	}
	return streams
}

// planned returns the configuration of one stream of the layout.
func (c *Config) planned(name string) jetstream.StreamConfig {
	for _, stream := range c.layout() {
		if stream.Name == name {
			return stream
		}
	}
	panic("queue: the layout has no stream " + name)
}

// Difference is a setting of a stream or bucket that is not as it was asked for.
type Difference struct {
	Stream  string `json:"stream"`
	Setting string `json:"setting"` // as the server's API names it; "stream" where all of it is missing
	Have    string `json:"have"`
	Want    string `json:"want"`
}

type grade int

const (
	same grade = iota
	drifted
	added
	broken
)

// deviation is a setting that is not the same.
type deviation struct {
	Difference
	grade grade
	field string // of jetstream.StreamConfig
	why   string // what breaks
	final bool   // the server does not change it
}

// rule says what may be found under one field.
type rule struct {
	judge func(plan *jetstream.StreamConfig, want, have reflect.Value) grade
	why   string
	final bool
}

// rules has every field of jetstream.StreamConfig.
var rules = map[string]rule{
	"Name":        {judge: anything}, // by which it was found
	"Description": {judge: anything},
	"Subjects":    {judge: subjects, why: "messages on other subjects would fill it, and its own would be refused"},
	"Retention":   {judge: exact, why: "messages would go before they are settled, or stay after", final: true},
	"MaxConsumers": {judge: consumers,
		why: "pages beyond it would not be delivered"},
	// Jobs, records and dead letters count alike, so that a record of what became of a job could be refused.
	"MaxMsgs": {judge: exact, why: "messages beyond it would be refused, and what becomes of those that are there"},
	// Where it is full new jobs are refused, which callers are told. None is dropped.
	"MaxBytes": {judge: tuned},
	"Discard":  {judge: exact, why: "a full stream would drop messages"},
	// With max_msgs_per_subject it would refuse what is to replace a message.
	"DiscardNewPerSubject": {judge: exact, why: "what is known of a message could not be replaced"},
	"MaxAge":               {judge: age, why: "what is still needed would vanish after it"},
	"MaxMsgsPerSubject":    {judge: exact, why: "messages under the same subject would be dropped, or outdated ones kept"},
	"MaxMsgSize":           {judge: exact, why: "messages over it would be refused again and again"},
	"Storage":              {judge: storage, why: "a restart would lose what it holds", final: true},
	"Replicas":             {judge: tuned},
	"NoAck":                {judge: exact, why: "nothing that is stored would be confirmed"},
	// Of dead letters alone: the message id keeps a letter single. Nothing else has one.
	"Duplicates": {judge: atLeast, why: "a dead letter could be stored twice, and be replayed twice"},
	"Placement":  {judge: anything},
	"Mirror":     {judge: exact, why: "a mirror takes no messages"},
	"Sources":    {judge: exact, why: "messages of other streams would come in"},
	"Sealed":     {judge: exact, why: "a sealed stream takes no messages", final: true},
	// Acknowledgements, ages and replacements are no deletions to the server. Discarding and replaying dead letters is.
	"DenyDelete": {judge: undeletable, why: "dead letters could not be removed, and a replay would leave them", final: true},
	"DenyPurge":  {judge: anything}, // nothing here purges
	// It needs a header that no message of ours has. In buckets it is for people who purge a key.
	"AllowRollup":      {judge: anything},
	"Compression":      {judge: anything},
	"FirstSeq":         {judge: anything},
	"SubjectTransform": {judge: exact, why: "messages would be stored under other subjects"},
	"RePublish":        {judge: exact, why: "messages and what they say would go to whoever listens there"},
	// On the jobs and letters it is how they are read. In buckets it would let a replica answer that lags.
	"AllowDirect":  {judge: direct, why: "a replica that lags could answer with what was changed a moment ago"},
	"MirrorDirect": {judge: exact, why: "a mirror takes no messages"},
	// Consumers that want more, as ours do, are refused, and durable ones would be removed when they are idle.
	"ConsumerLimits": {judge: exact, why: "consumers could not be made, or would be removed while they are idle"},
	"Metadata":       {judge: anything}, // but for the schema, which is looked at before all else
	"Template":       {judge: anything}, // no server knows it any more
	"AllowMsgTTL":    {judge: needed, why: "records would stay for ever"},
	// A marker is a message: to a reader it is an empty record or an empty dead letter.
	"SubjectDeleteMarkerTTL": {judge: exact, why: "the server's markers would be taken for messages"},
	"AllowMsgCounter":        {judge: exact, why: "messages would be taken for counters", final: true},
	"AllowAtomicPublish":     {judge: needed, why: "a message could not be stored with its record as one"},
	"AllowMsgSchedules":      {judge: exact, why: "messages would be held back by the server", final: true},
	"PersistMode":            {judge: exact, why: "messages would be confirmed before they are on the disk", final: true},
	"AllowBatchPublish":      {judge: anything}, // another way in, which nobody here takes
}

func anything(*jetstream.StreamConfig, reflect.Value, reflect.Value) grade { return same }

func exact(_ *jetstream.StreamConfig, want, have reflect.Value) grade {
	if blank(want) && blank(have) || reflect.DeepEqual(want.Interface(), have.Interface()) {
		return same
	}
	return broken
}

// blank reports whether a setting is not set. The server writes -1 for numbers without a limit.
func blank(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	case reflect.Int, reflect.Int32, reflect.Int64:
		return v.Int() == 0 || v.Int() == -1
	}
	return v.IsZero()
}

// tuned is for what a flag says. Without a word of the flag any value will do.
func tuned(_ *jetstream.StreamConfig, want, have reflect.Value) grade {
	if blank(want) || reflect.DeepEqual(want.Interface(), have.Interface()) {
		return same
	}
	return drifted
}

// needed is for what this version relies on. Where it does not, it does no harm.
func needed(_ *jetstream.StreamConfig, want, have reflect.Value) grade {
	if want.Bool() && !have.Bool() {
		return added
	}
	return same
}

func direct(plan *jetstream.StreamConfig, want, have reflect.Value) grade {
	if !want.Bool() {
		return exact(plan, want, have)
	}
	return needed(plan, want, have)
}

func atLeast(_ *jetstream.StreamConfig, want, have reflect.Value) grade {
	if have.Int() < want.Int() {
		return added
	}
	return same
}

// defaultMaxConsumers is how many consumers a stream takes that has no number of its own (JSDefaultMaxConsumersPerStream of
// nats-server 2.15.2).
const defaultMaxConsumers = 1000

func consumers(_ *jetstream.StreamConfig, want, have reflect.Value) grade {
	bound := func(v reflect.Value) int64 {
		if blank(v) {
			return defaultMaxConsumers
		}
		return v.Int()
	}
	if bound(have) < bound(want) {
		return added
	}
	return same
}

func subjects(_ *jetstream.StreamConfig, want, have reflect.Value) grade {
	w, h := want.Interface().([]string), have.Interface().([]string)
	outside := func(of []string) func(string) bool {
		return func(s string) bool { return !slices.Contains(of, s) }
	}
	switch {
	case slices.ContainsFunc(h, outside(w)):
		return broken
	case slices.ContainsFunc(w, outside(h)):
		return added
	}
	return same
}

// age is the operator's to choose for dead letters, and nobody's for the rest.
func age(plan *jetstream.StreamConfig, want, have reflect.Value) grade {
	if plan.Name == StreamDead {
		return tuned(plan, want, have)
	}
	return exact(plan, want, have)
}

// storage may be either for paces: see ensurePace.
func storage(plan *jetstream.StreamConfig, want, have reflect.Value) grade {
	if plan.Name == streamOf(BucketPace) {
		return same
	}
	return exact(plan, want, have)
}

func undeletable(plan *jetstream.StreamConfig, _, have reflect.Value) grade {
	if plan.Name == StreamDead && have.Bool() {
		return broken
	}
	return same
}

// compare returns what is not the same, in the order of the fields.
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
			f.final = false // between these two the server lets it be changed
		}
		deviations = append(deviations, f)
	}
	return deviations
}

// text is a setting's value for people.
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

// amended returns what was found with the deviations of at least a grade set right, and with the schema.
func amended(plan, found *jetstream.StreamConfig, deviations []deviation, least grade) jetstream.StreamConfig {
	to := *found
	want, have := reflect.ValueOf(plan).Elem(), reflect.ValueOf(&to).Elem()
	for _, f := range deviations {
		if f.grade >= least {
			have.FieldByName(f.field).Set(want.FieldByName(f.field))
		}
	}
	if to.MaxAge > 0 && to.Duplicates > to.MaxAge { // which the server refuses
		to.Duplicates = to.MaxAge
	}
	to.Metadata = maps.Clone(found.Metadata)
	if to.Metadata == nil {
		to.Metadata = map[string]string{}
	}
	to.Metadata[schemaKey] = plan.Metadata[schemaKey]
	return to
}

// ConfigError says that a stream or bucket cannot be used as it stands, or cannot be made as it should be. It is final:
// waiting does not help, the remedy does.
type ConfigError struct {
	Stream, Reason, Remedy string
}

func (e *ConfigError) Error() string {
	return "stream " + e.Stream + ": " + e.Reason + "; " + e.Remedy
}

// newerError is about a stream of a newer version.
type newerError struct{ *ConfigError }

func (e newerError) Unwrap() error { return e.ConfigError }

const (
	remedySetup = "run `brazier setup` with an operator's rights"
	remedyAgain = "the server cannot change that: once nothing in it is needed any more, remove it (nats stream rm) and run `brazier setup`"
)

// refusal is the error for the deviations that are broken, nil if none is.
func refusal(stream string, deviations []deviation) error {
	var reasons []string
	remedy := remedySetup
	for _, f := range deviations {
		if f.grade != broken {
			continue
		}
		reasons = append(reasons, fmt.Sprintf("%s is %s and has to be %s (%s)", f.Setting, f.Have, f.Want, f.why))
		if f.final {
			remedy = remedyAgain
		}
	}
	if reasons == nil {
		return nil
	}
	return &ConfigError{stream, strings.Join(reasons, "; "), remedy}
}

// errNoSchema says that no released version made the stream.
var errNoSchema = errors.New("no schema")

// schemaOf returns the schema of what was found, held against the one that this process knows. errNoSchema is left to the
// caller.
func schemaOf(plan, found *jetstream.StreamConfig) (int, error) {
	value, ok := found.Metadata[schemaKey]
	if !ok {
		return 0, errNoSchema
	}
	known, _ := strconv.Atoi(plan.Metadata[schemaKey])
	number, err := strconv.Atoi(value)
	switch {
	case err != nil || number < 1:
		return 0, &ConfigError{plan.Name, fmt.Sprintf("its metadata has %q under %s, which is no schema", value, schemaKey),
			fmt.Sprintf("set it to the number with which the stream was made, or run `brazier setup` once it is empty and has no %s", schemaKey)}
	case number > known:
		return 0, newerError{&ConfigError{plan.Name, fmt.Sprintf("it has schema %d, and this version of Brazier knows schema %d", number, known),
			"run the version that made it, or a newer one"}}
	}
	return number, nil
}

// unknownOrigin is the error for a stream without a schema.
func unknownOrigin(stream string, messages uint64) error {
	if messages == 0 {
		return &ConfigError{stream, fmt.Sprintf("its metadata has no %s, so Brazier did not make it", schemaKey),
			"run `brazier setup` with an operator's rights, which takes it over since it is empty"}
	}
	return &ConfigError{stream, fmt.Sprintf("its metadata has no %s, so it was made by hand or by a version before the first release, and it holds %d messages "+
		"whose form is not known", schemaKey, messages),
		"let the program that made it deliver them, or remove it (nats stream rm), and run `brazier setup`"}
}
