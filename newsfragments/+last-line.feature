The reason of a failed start is the last line that the program prints, also where an application does not
load or start: ``txsticky:`` and the sentence, on standard error.
