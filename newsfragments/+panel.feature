A function that makes a page of Panel is told with what serves it.
