Requests of twisted.web cost less: what repeats from one request to the next is remembered, and a response that is returned whole is written in one go.
