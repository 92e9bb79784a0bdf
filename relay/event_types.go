package relay

// EventTypes lists every type that is posted to partners.
func EventTypes() []string {
	return []string{EventPush,
		EventSubscriptionAccepted, EventSubscriptionRejected, EventSubscriptionCancelled,
		EventMessageHeld, EventMessageSent, EventMessageDelivered, EventMessageFailed, EventMessageRefused, EventMessageExpired,
		EventMessageCancelled, EventMessageUnknown,
		EventUserLoggedIn, EventUserBound, EventUserUnbound, EventUserRevoked, EventUserPhone,
		EventEndpointBenched, EventEndpointDisabled, EventEndpointRecovered, EventEndpointTest, EventAlert}
}
