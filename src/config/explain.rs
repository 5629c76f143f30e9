//! What a plan means, in plain words: the text of `brownout check`.
