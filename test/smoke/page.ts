const [BEGIN, END] = ["<!-- scenarios -->", "<!-- end of scenarios -->"];

/** The page with this table between its two marks. */
export const replaceTable = (page: string, table: string): string => {
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`the page has no ${BEGIN} before an ${END}`);
  return `${page.slice(0, begin + BEGIN.length)}\n\n${table}\n${page.slice(end)}`;
};
