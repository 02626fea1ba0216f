A key that was learned from a cookie ends when that cookie expires, and not only when it has not been used for an hour.
