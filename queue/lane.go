package queue

import (
	"strings"
)

// Lane is one of a page's queues. Urgent and Bulk share the page's rate, Urgent first. Media has a rate of its own,
// since Facebook allows far fewer calls with audio and video (Messenger rate limits: 10 a second, against 300).
type Lane string

// The lanes of a page.
const (
	Urgent Lane = "urgent"
	Bulk   Lane = "bulk"
	Media  Lane = "media"
)

// Lanes returns every lane.
func Lanes() []Lane { return []Lane{Urgent, Bulk, Media} }

// Events is the lane of the events of Facebook's webhooks. Its jobs are in a stream of their own, so that events and
// messages to people cannot fill each other's space.
const Events Lane = "events"

// Outcomes is the lane of what became of messages, and of Facebook's receipts for them, for Braze. There are several for each message, so
// its jobs are in a stream of their own too: however many wait, the events of people are captured at once.
const Outcomes Lane = "outcomes"

// updatesPrefix begins the names of the lanes of updates for Braze, one for each workspace.
const updatesPrefix = "braze-"

// Updates returns the lane of the updates for a Braze workspace, whose name consists of letters, digits, - and _. Its
// jobs are in a stream of their own, so that updates that Braze does not accept never fill the queue of messages.
func Updates(workspace string) Lane { return Lane(updatesPrefix + workspace) }

// Workspace returns the Braze workspace of a lane of updates, and false for another lane.
func (l Lane) Workspace() (string, bool) { return strings.CutPrefix(string(l), updatesPrefix) }

// route is where the jobs of a lane are stored; those of messages to people in partition 1, see [store].
type route struct{ stream, subjects string }

var routes = []route{
	{StreamJobs, "brazier.jobs."},
	{StreamEvents, "brazier.events."},
	{StreamUpdates, "brazier.updates."},
	{StreamOutcomes, "brazier.outcomes."},
}

func (l Lane) route() route {
	if _, ok := l.Workspace(); ok {
		return routes[2]
	}
	switch l {
	case Events:
		return routes[1]
	case Outcomes:
		return routes[3]
	}
	return routes[0]
}

// isMessage reports whether the jobs of the lane are messages to people.
func (l Lane) isMessage() bool { return l.route().stream == StreamJobs }

// PageLane is a lane of a page, by the page's Facebook id.
type PageLane struct {
	Page string
	Lane Lane
}
