package queue

import (
	"reflect"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// rule grades what is found under one field.
type rule struct {
	judge func(plan *jetstream.StreamConfig, want, have reflect.Value) grade
	why   string
	final bool
}

// rules has every field of jetstream.StreamConfig. What breaks was read out of nats-server 2.15.2.
var rules = map[string]rule{
	"Name":        {judge: anything}, // the stream was found by it
	"Description": {judge: anything},
	"Subjects":    {judge: subjects, why: "messages on other subjects would fill it, and its own would be refused"},
	"Retention":   {judge: exact, why: "messages would be removed before they are settled, or stay after", final: true},
	"MaxConsumers": {judge: consumers,
		why: "pages beyond it would not be delivered"},
	// Jobs, records and dead letters count alike, so that a record of what became of a job could be refused.
	"MaxMsgs": {judge: exact, why: "messages beyond it would be refused, and what becomes of those that are there"},
	// A full stream refuses new jobs, which their callers learn. None is dropped.
	"MaxBytes": {judge: tuned},
	"Discard":  {judge: exact, why: "a full stream would drop messages, or refuse to count"},
	// With max_msgs_per_subject it would refuse a message that is to replace another.
	"DiscardNewPerSubject": {judge: exact, why: "what is known of a message could not be replaced"},
	"MaxAge":               {judge: age, why: "what is still needed would vanish after it"},
	"MaxMsgsPerSubject":    {judge: exact, why: "messages under the same subject would be dropped, or outdated ones kept"},
	"MaxMsgSize":           {judge: exact, why: "messages over it would be refused again and again"},
	"Storage":              {judge: storage, why: "a restart would lose what it holds", final: true},
	"Replicas":             {judge: tuned},
	"NoAck":                {judge: exact, why: "nothing that is stored would be confirmed"},
	// The message id keeps dead letters single, and batches of counts. No other message has one.
	"Duplicates": {judge: atLeast, why: "a dead letter could be stored twice, and be replayed twice"},
	"Placement":  {judge: anything},
	"Mirror":     {judge: exact, why: "a mirror takes no messages"},
	"Sources":    {judge: exact, why: "messages of other streams would come in"},
	"Sealed":     {judge: exact, why: "a sealed stream takes no messages", final: true},
	// To the server, acknowledging, ageing and replacing are no deletions. Discarding and replaying dead letters are.
	"DenyDelete": {judge: undeletable, why: "dead letters could not be removed, and a replay would leave them", final: true},
	"DenyPurge":  {judge: anything}, // nothing here purges
	// It needs a header that no message of Brazier has. In buckets it is for people who purge a key.
	"AllowRollup":      {judge: anything},
	"Compression":      {judge: anything},
	"FirstSeq":         {judge: anything},
	"SubjectTransform": {judge: exact, why: "messages would be stored under other subjects"},
	"RePublish":        {judge: exact, why: "messages and what they say would go to whoever listens there"},
	// Jobs and dead letters are read by it. In buckets it would let a replica answer that lags.
	"AllowDirect":  {judge: direct, why: "a replica that lags could answer with an outdated value"},
	"MirrorDirect": {judge: exact, why: "a mirror takes no messages"},
	// Consumers that ask for more, as Brazier's do, are refused, and durable ones would be removed while they are idle.
	"ConsumerLimits": {judge: exact, why: "consumers could not be made, or would be removed while they are idle"},
	"Metadata":       {judge: anything}, // except the schema, which is judged before the rules
	"Template":       {judge: anything}, // no server knows it now
	"AllowMsgTTL":    {judge: needed, why: "records would stay for ever"},
	// A marker is a message: a reader would take it for an empty record or an empty dead letter.
	"SubjectDeleteMarkerTTL": {judge: exact, why: "the server's markers would be taken for messages"},
	"AllowMsgCounter":        {judge: exact, why: "messages would be taken for counters, or counters for messages", final: true},
	"AllowAtomicPublish":     {judge: needed, why: "a message could not be stored with its record as one"},
	"AllowMsgSchedules":      {judge: exact, why: "messages would be held back by the server", final: true},
	"PersistMode":            {judge: exact, why: "messages would be confirmed before they are on the disk", final: true},
	"AllowBatchPublish":      {judge: anything}, // no message of Brazier is published so
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

// tuned is for settings with a flag. If the flag is not set any value is the same.
func tuned(_ *jetstream.StreamConfig, want, have reflect.Value) grade {
	if blank(want) || reflect.DeepEqual(want.Interface(), have.Interface()) {
		return same
	}
	return drifted
}

// needed is for settings that this version relies on where it sets them. Elsewhere they do no harm.
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

// age is the operator's choice for dead letters, counters and what receipts may come for, and fixed for the other streams.
func age(plan *jetstream.StreamConfig, want, have reflect.Value) grade {
	if plan.Name == StreamDead || plan.Name == StreamCampaigns || plan.Name == streamOf(BucketSent) {
		return tuned(plan, want, have)
	}
	return exact(plan, want, have)
}

// storage may be memory or file for paces: see ensurePace.
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
