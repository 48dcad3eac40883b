package sendapi

// sentences say what a class means to somebody who plans campaigns: at most 255 characters, which is what Braze takes of a text.
var sentences = map[Class]string{
	ClassTransient:       "Facebook failed for a reason that may pass, again and again.",
	ClassThrottle:        "The page sent too fast for Facebook.",
	ClassThrottleApp:     "The Facebook app sent too fast for Facebook.",
	ClassAuth:            "The page's access token is no longer valid: its owner has to make a new one.",
	ClassPage:            "The page or its Facebook app may not send this: a permission, a setting or a restriction stops it.",
	ClassRecipient:       "The person cannot be reached: they blocked the page, stopped its messages, left Facebook, or never wrote to the page.",
	ClassWindow:          "The person's last message is too old: Facebook allows this kind of message only within 24 hours of it.",
	ClassThread:          "Another app, or a person in the page's inbox, had control of the conversation for too long.",
	ClassMessage:         "Facebook refuses this message itself: its template has to be changed.",
	ClassInDoubt:         "It may have been sent: Facebook's answer was lost.",
	ClassDeliveredAnyway: "Facebook took it, although it answered with an error.",
	ClassExpired:         "It waited longer than it was allowed to, and was not sent.",
}

// Sentence says in plain English what the class means, for people who know nothing of the Send API. It is empty for a class that
// this package does not know.
func (c Class) Sentence() string { return sentences[c] }
